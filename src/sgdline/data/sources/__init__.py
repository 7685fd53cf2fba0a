"""Where images come from: each module declares one source and reads it.

The modules import neither torch nor numpy at their top, because a configuration is checked with them.
"""
