"""DRAM at command level: devices as tables of timing constraints, controllers, traces, energy."""
