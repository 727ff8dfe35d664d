"""Networks of their own against heads on a shared backbone: accuracy at stated CPU budgets, distillation, int8."""
