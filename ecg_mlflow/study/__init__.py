"""A study: the plan of a grid file, and the scheduling, dispatch and resuming of its runs."""
