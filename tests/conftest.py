"""Puts this folder on the import path: `tiny_scene` is shared by the tests of several packages."""
