"""Static pages from the store alone: index, model, window and feature; and Evidently's page as the drill-down."""
