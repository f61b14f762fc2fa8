"""Settings of the controllers, with the names and meanings of the simulators they follow."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from archsim.inputs import Strict
from archsim.models.dram import layout as L
from archsim.models.dram.layout import Arbiter, Buffer, Mux, Order, Page, Refresh, Scheduler

PAGES = {
    "Open": Page.OPEN,
    "OpenAdaptive": Page.OPEN_ADAPTIVE,
    "Closed": Page.CLOSED,
    "ClosedAdaptive": Page.CLOSED_ADAPTIVE,
}
SCHEDULERS = {
    "Fifo": Scheduler.FIFO,
    "FrFcfs": Scheduler.FR_FCFS,
    "FrFcfsGrp": Scheduler.FR_FCFS_GRP,
}
BUFFERS = {"Bankwise": Buffer.BANKWISE, "ReadWrite": Buffer.READ_WRITE, "Shared": Buffer.SHARED}
ORDERS = {"Fifo": Order.FIFO, "Reorder": Order.REORDER}
REFRESHES = {
    "NoRefresh": Refresh.NONE,
    "AllBank": Refresh.ALL_BANK,
    "PerBank": Refresh.PER_BANK,
    "SameBank": Refresh.SAME_BANK,
}
ARBITERS = {"Simple": Arbiter.SIMPLE, "Fifo": Arbiter.FIFO, "Reorder": Arbiter.REORDER}
MUXES = {"Oldest": Mux.OLDEST, "Strict": Mux.STRICT}

Delay = Field(default=0, ge=0, le=1 << 20)


class Policy(Strict):
    """The controller DRAMSys models, option by option.

    Attributes:
        page: ``Open`` leaves rows open; ``Closed`` precharges after every access; the adaptive
            ones look whether a further request of the bank hits the open row.
        scheduler: Per bank: oldest first, oldest row hit first, or row hits of the direction last
            served first.
        buffer: What ``depth`` counts: requests of a bank, of a direction, or all.
        depth: Entries of the request buffer; ``depth_write`` those for writes if they differ.
        response: Responses leave as their data do, or in the order of the requests.
        refresh: What one refresh takes; ``NoRefresh`` loses data.
        max_postponed, max_pulled_in: How many refreshes may be late, or early.
        arbiter: ``Simple`` hands on one request at a time, the others queue up to ``max_active``
            requests; ``Reorder`` answers in the order of the requests.
        mux: Which command of those ready is issued: of the oldest request, or column commands in
            the order of the requests.
        think_delay_fw, phy_delay_fw, arbitration_delay_fw: Cycles added on the way to the memory;
            ``_bw``: on the way back.
        dramsys: Release whose initiator and arbiter are modelled. In 4.0 requests follow one
            another a cycle apart at the earliest, and a command that is ready in the cycle of a
            forced refresh is still issued; in 5.1 the next request is sent in the cycle in which
            the last was accepted.
    """

    page: Literal["Open", "OpenAdaptive", "Closed", "ClosedAdaptive"] = "Open"
    scheduler: Literal["Fifo", "FrFcfs", "FrFcfsGrp"] = "FrFcfs"
    buffer: Literal["Bankwise", "ReadWrite", "Shared"] = "Bankwise"
    depth: int = Field(default=8, ge=1, le=1 << 20)
    depth_write: int | None = Field(default=None, ge=1, le=1 << 20)
    response: Literal["Fifo", "Reorder"] = "Fifo"
    refresh: Literal["NoRefresh", "AllBank", "PerBank", "SameBank"] = "AllBank"
    max_postponed: int = Field(default=0, ge=0, le=1 << 16)
    max_pulled_in: int = Field(default=0, ge=0, le=1 << 16)
    arbiter: Literal["Simple", "Fifo", "Reorder"] = "Simple"
    max_active: int = Field(default=64, ge=1, le=1 << 20)
    mux: Literal["Oldest", "Strict"] = "Oldest"
    think_delay_fw: int = Delay
    think_delay_bw: int = Delay
    phy_delay_fw: int = Delay
    phy_delay_bw: int = Delay
    arbitration_delay_fw: int = Delay
    arbitration_delay_bw: int = Delay
    dramsys: Literal["4.0", "5.1"] = "5.1"

    def vector(self) -> np.ndarray:
        """The settings as compiled code reads them: int64[P_SIZE]."""
        p = np.zeros(L.P_SIZE, np.int64)
        p[L.P_PAGE] = PAGES[self.page]
        p[L.P_SCHEDULER] = SCHEDULERS[self.scheduler]
        p[L.P_BUFFER] = BUFFERS[self.buffer]
        p[L.P_DEPTH_READ] = self.depth
        p[L.P_DEPTH_WRITE] = self.depth_write or self.depth
        p[L.P_RESPONSE] = ORDERS[self.response]
        p[L.P_REFRESH] = REFRESHES[self.refresh]
        p[L.P_POSTPONE] = self.max_postponed
        p[L.P_PULL_IN] = self.max_pulled_in
        p[L.P_ARBITER] = ARBITERS[self.arbiter]
        p[L.P_ACTIVE] = self.max_active
        p[L.P_MUX] = MUXES[self.mux]
        p[L.P_THINK_FW] = self.think_delay_fw
        p[L.P_THINK_BW] = self.think_delay_bw
        p[L.P_PHY_FW] = self.phy_delay_fw
        p[L.P_PHY_BW] = self.phy_delay_bw
        p[L.P_ARB_FW] = self.arbitration_delay_fw
        p[L.P_ARB_BW] = self.arbitration_delay_bw
        old = self.dramsys == "4.0"
        p[L.P_SEND_GAP] = 1 if old else 0
        p[L.P_RESPONSE_GAP] = 1 if old else 2
        p[L.P_BATCH_RESPONSES] = 0 if old else 1
        return p


class DRAMsim3Policy(Strict):
    """The controller DRAMsim3 models (see dramsim3.py), with a command queue for every bank.

    Attributes:
        close_page: Precharge after every access.
        command_queue: Entries of a bank's command queue.
        transaction_queue: Entries of the read queue and of the write buffer.
        write_mark: Writes start to drain, with empty command queues, from more than this many.
        row_hit_limit: Row hits after which an older request may close the row.
        refresh: Whether ranks are refreshed, one after the other.
    """

    close_page: bool = False
    command_queue: int = Field(default=8, ge=1, le=1 << 12)
    transaction_queue: int = Field(default=32, ge=1, le=1 << 12)
    write_mark: int = Field(default=8, ge=0, le=1 << 12)
    row_hit_limit: int = Field(default=4, ge=1, le=1 << 30)
    refresh: bool = True


class RamulatorPolicy(Strict):
    """The controller Ramulator 2.1 models (see ramulator.py).

    Attributes:
        keep_hits: FRFCFS-RowHit: a row stays open for older requests that hit it; else FRFCFS.
        read_buffer, write_buffer: Entries.
        high_watermark, low_watermark: Tenths of the write buffer: writes drain when more than the
            first are full, until less than the second are.
        row_cap: Column commands after which a row is closed (ClosedCAP); 0 leaves rows open.
        refresh: Whether all ranks are refreshed, together.
    """

    keep_hits: bool = True
    read_buffer: int = Field(default=32, ge=1, le=1 << 12)
    write_buffer: int = Field(default=32, ge=1, le=1 << 12)
    high_watermark: int = Field(default=8, ge=0, le=10)
    low_watermark: int = Field(default=2, ge=0, le=10)
    row_cap: int = Field(default=0, ge=0, le=1 << 20)
    refresh: bool = True


#: Settings of any controller.
Controller = Policy | DRAMsim3Policy | RamulatorPolicy
