"""What the columns of a controller's arrays hold, and plain numbers of its policies."""

from __future__ import annotations

# Columns of the bank state. B_READ and B_WRITE: oldest unserved hits of the open row.
B_ROW, B_CURRENT, B_KEEP, B_BLOCKED, B_FRONT, B_COUNT, B_READ, B_WRITE, B_FRESH = range(9)
B_ACTIVATED, B_CHAINED = 9, 10
B_SIZE = 16
# Columns of the refresh state of a rank; F_LEFT: sets not yet refreshed in this round.
F_NEXT, F_PULLED, F_FLEX, F_COMMAND, F_SET, F_SKIP, F_LEFT, F_SIZE = range(8)
# Shared scalars.
(
    S_ACCEPTED,
    S_ARRIVAL,  # when the next request reaches the controller
    S_WITH_CLOCK,  # it arrives with the clock, before the command of that cycle
    S_STUCK,  # it has arrived and finds no space
    S_END,  # end of the last request at the controller, -1 before the first
    S_ENTERED,  # when it entered the arbiter's queue
    S_LAST_BANK,
    S_READS,
    S_WRITES,
    S_LAST_WRITE,  # direction of the last column command
    S_LAST_OUT,  # last response that left the controller
    S_LAST_BACK,  # last response at the initiator
    S_OUT,  # responses that left the controller
    S_BACK,
    S_SERVED,
    S_NEXT_COLUMN,  # request whose column command is due next (strict)
    S_BEST_TIME,
    S_BEST_ID,
    S_BEST_BANK,
    S_BEST_COMMAND,
    S_LATE,  # banks were blocked in this cycle, whose commands may still be issued
    S_STALE,  # rank whose limits changed, the number of ranks for all of them
    S_SIZE,
) = range(23)
SHIFT = 26  # requests of a trace are numbered below 2**26
ID_MASK = (1 << SHIFT) - 1
MAX_REQUESTS = (1 << SHIFT) - 2
FAR = 1 << 36  # an end that is never reached; a key of it still fits into 63 bits
NO_KEY = FAR << SHIFT
DEMAND = 12  # leading columns of the tables: all but broadcast commands, in whole vectors

# Policy values, plain numbers for the compiler (see layout.py).
OPEN, OPEN_ADAPTIVE, CLOSED, CLOSED_ADAPTIVE = range(4)
FIFO, FR_FCFS, FR_FCFS_GRP = range(3)
BANKWISE, READ_WRITE, SHARED = range(3)
NO_REFRESH, ALL_BANK, PER_BANK, SAME_BANK = range(4)
