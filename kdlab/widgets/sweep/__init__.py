"""The ratio and budget explorer: its settings' runs, lines, chart, captions and commands."""
