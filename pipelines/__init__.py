"""Entry points: each reads its configuration, calls the library and tracks. No algorithm lives here."""
