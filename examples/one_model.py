"""From a table to a judged model, and what can be asked of it."""

from pathlib import Path

import modelworks as mw

TABLES = Path(mw.__file__).parent / "examples_data"

result = mw.produce(
    TABLES / "german_credit.csv",
    target="risk",
    positive="bad",
    gate={"roc_auc": ">= 0.70"},
    budget="60s",
)
print(result.verdict.kind, "-", result.verdict.cause)
for name, measure in result.measures.items():
    print(f"  {name}: {measure.value:.3f} ({measure.low:.3f} to {measure.high:.3f})")
print("report:", result.report())
print(f"cost: {result.cost['cpu_s']:.1f} CPU-seconds, {result.cost['money']:.6f} {result.cost['currency']}")

if result.verdict.kind == "released":
    applicant = {"duration_months": 48, "credit_amount": 9000, "age": 23, "checking_status": "A11"}
    print("an applicant of whom little is known:", result.predict(applicant))
    for part in result.model.explain(applicant)["contributions"][:3]:
        print(f"  {part['column']} = {part['value']}: {part['contribution']:+.3f}")
