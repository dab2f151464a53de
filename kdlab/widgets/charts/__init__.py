"""Charts of explorers: described once as data, drawn in the browser as vector graphics, and by matplotlib as twins."""
