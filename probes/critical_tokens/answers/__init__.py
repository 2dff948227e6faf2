"""Answers: read out of a response, and compared with the right one."""
