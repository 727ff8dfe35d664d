"""Which members a table recipe should have: a sweep over candidates and a greedy choice by gain per cost."""
