"""Read: one file per thing on a node. A fact is a shell command and a pure parser."""
