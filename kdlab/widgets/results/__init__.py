"""The results browser: its settings' runs, table, pictures of one run and captions."""
