"""Names of commands and of the positions in the integer vectors that compiled code reads."""

from __future__ import annotations

from enum import IntEnum

#: Rows and columns of the constraint tables. Broadcast commands are those of memories that
#: compute: one command opens (ACTB), reads and multiplies (MACB), writes (WRB) or closes (PREB) a
#: row in all banks of a set (see ``spec.Broadcast``). WRB without a row writes operands into
#: registers or a buffer; RDB reads results from there.
COMMANDS = (
    "ACT",
    "PRE",
    "RD",
    "WR",
    "RDA",
    "WRA",
    "PREA",
    "REFA",
    "REFB",
    "PRES",
    "ACTB",
    "MACB",
    "WRB",
    "PREB",
    "RDB",
)
NUM_COMMANDS = 16  # a spare column: rows of the tables fill whole vector registers
ACT, PRE, RD, WR, RDA, WRA, PREA, REFA, REFB, PRES, ACTB, MACB, WRB, PREB, RDB = range(15)
NONE = -1

#: A distance that constrains nothing, and a time that never comes.
FREE = -(1 << 40)
NEVER = 1 << 60


class Page(IntEnum):
    """When a row is closed."""

    OPEN = 0
    OPEN_ADAPTIVE = 1
    CLOSED = 2
    CLOSED_ADAPTIVE = 3


class Scheduler(IntEnum):
    """Which request of a bank is served next."""

    FIFO = 0
    FR_FCFS = 1
    FR_FCFS_GRP = 2


class Buffer(IntEnum):
    """What the request buffer's depth counts."""

    BANKWISE = 0
    READ_WRITE = 1
    SHARED = 2


class Order(IntEnum):
    """Order in which responses leave the controller."""

    FIFO = 0
    REORDER = 1


class Refresh(IntEnum):
    """What is refreshed at a time."""

    NONE = 0
    ALL_BANK = 1
    PER_BANK = 2
    SAME_BANK = 3


class Arbiter(IntEnum):
    """How requests reach the controller."""

    SIMPLE = 0
    FIFO = 1
    REORDER = 2


class Mux(IntEnum):
    """Which of the ready commands is issued."""

    OLDEST = 0
    STRICT = 1


# Device vector.
(
    D_RANKS,
    D_GROUPS,  # bank groups of a rank
    D_BANKS,  # banks of a bank group
    D_READ_END,  # from a read to the end of its data
    D_WRITE_END,
    D_REFI,  # interval between refreshes of all banks
    D_REFI_BANK,  # interval between refreshes of one bank, or of one set of same banks
    D_WINDOW,  # length of the activation window (tFAW), 0 for none
    D_WINDOW_COUNT,  # activations allowed in it
    D_SPLIT_BUS,  # rows and columns have command buses of their own
    D_READ_CLOSE,  # from a read with auto-precharge to the precharge
    D_WRITE_CLOSE,
    D_BURST,  # cycles of a burst on the data bus
    D_READ_LATENCY,
    D_WRITE_LATENCY,
    D_RFC,
    D_RP,
    D_RAS,
    D_SAME_BANK,  # a refresh of banks takes the same bank of every group
    D_CROSS,  # some distance holds between ranks
    D_SIZE,
) = range(21)

# Policy vector of the DRAMSys-like controller.
(
    P_PAGE,
    P_SCHEDULER,
    P_BUFFER,
    P_DEPTH_READ,
    P_DEPTH_WRITE,
    P_RESPONSE,
    P_REFRESH,
    P_POSTPONE,
    P_PULL_IN,
    P_ARBITER,
    P_ACTIVE,
    P_MUX,
    P_THINK_FW,
    P_THINK_BW,
    P_PHY_FW,
    P_PHY_BW,
    P_ARB_FW,
    P_ARB_BW,
    P_SEND_GAP,  # cycles between the acceptance of a request and the next one (4.0: 1, 5.1: 0)
    P_RESPONSE_GAP,  # cycles from one response of the arbiters with queues to the next
    P_BATCH_RESPONSES,  # several responses may leave the controller in one cycle
    P_SIZE,
) = range(22)

# Results of one channel.
(
    R_END,  # cycle of the last response
    R_ROW_HITS,
    R_READS,
    R_WRITES,
    R_LATENCY,  # sum over reads, from the request to its response
    R_LOGGED,
    R_READ_HITS,
    R_SIZE,
) = range(8)
# Per rank: commands issued, then cycles with an open row, then rows closed.
RANK_ACTIVE = NUM_COMMANDS
RANK_CLOSED = NUM_COMMANDS + 1
RANK_SIZE = NUM_COMMANDS + 2
