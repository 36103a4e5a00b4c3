"""Choose which configurations are tried and which are stopped early: samplers and pruners."""
