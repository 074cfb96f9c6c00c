"""Time and place: clocks, locales, users, Pythons, processes, signals and the end of the interpreter."""
