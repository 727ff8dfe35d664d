"""One backbone, many heads: cost of the n-th task, accuracy against single fits, memory, serving, few labels."""
