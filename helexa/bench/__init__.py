"""The benchmark loop: what every build of every model reaches on every host, measured, kept and compared."""
