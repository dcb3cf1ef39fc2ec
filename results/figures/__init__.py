"""The report's figures: SVG whose colours the page decides, by day, by night and on paper."""
