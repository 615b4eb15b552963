"""An atlas over HTTP: a read-only API, and the pages of the viewer."""
