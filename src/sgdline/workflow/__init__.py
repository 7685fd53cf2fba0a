"""From a checked configuration to jobs: runs, names of files, settings and digests that rules put into their params.

`layout` names every file, `runs` and `slices` read the configuration, `tables`, `drawing`, `claims`, `starts` and
`code` say what jobs read and depend on, and `jobs.Jobs` binds all of it to one configuration, for the rules. Nothing
here imports torch, numpy or Snakemake, so that a dry run stays quick.
"""
