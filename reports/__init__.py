"""Tell: one file per format. A report never decides."""
