"""Worlds from data on disk: a folder in Headrace's own layout, real hotel lists, KuaiSearch files."""
