"""What is proved about hostile input: mutants of every format, kills, full disks, interrupts.

``python -m benchmarks.trust --help`` lists the commands.
"""
