"""Which configurations are tried, and which of them go on: samplers and pruners."""
