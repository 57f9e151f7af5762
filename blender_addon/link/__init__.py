"""The add-on's link to the backend: find it, install it, start it, talk to it, follow its jobs.

`client`, `process`, `install`, `locate` and `session` know nothing of Blender, so they are tested
with plain Python; `folders`, `polling` and `tasks` are the part that does.
"""
