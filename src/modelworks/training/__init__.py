"""Learning without features or graphs: problems, linear solvers, races, pools, calibration and budgets."""
