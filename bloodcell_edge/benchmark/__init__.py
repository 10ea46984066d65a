"""How long one picture takes, stage by stage, for each model file and number of threads, on this very machine.

- `measure`: all cases take turns, picture by picture; `apart`: starting and memory, in processes of their own (`life`).
- `figures`: what the times say, and whether something disturbed them.
- `compare`: with a run of earlier; `recommend`: which file and how many threads to use here. The page is made in
  `reports.benchmark`.
"""
