"""Figures as functions: rows of a run -> Vega-Lite, for the report, notebooks (`run.plot.front()`) and papers."""
