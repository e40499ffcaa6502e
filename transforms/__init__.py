"""Declarative row steps, one a file, each with its inverse and its SQL where there is one."""
