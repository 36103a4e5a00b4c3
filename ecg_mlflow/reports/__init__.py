"""Reports of studies: comparison, errors, data; tables, figures and pages."""
