"""A simulation of processes, Redis, links and browsers on a virtual clock: a failing seed repeats exactly.

Real: hub, rounds, opener, streams, the broker on Redis with its connections, and the Lua scripts. Models: the event
loop's clock and I/O, Redis' commands, the network, the browsers. `python -m tests.simulation SEED` repeats a run.
"""
