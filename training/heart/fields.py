"""The field table of the heart model: the code book of `data/README.md` as code.

Training writes it into the manifest. The API and the worker read records by it and know no field
by name. Codes start at 0. `training` is the range of the 303 Cleveland rows, `accept` is wide
enough for every plausible adult.
"""

from __future__ import annotations

from shared.records.schema import Choice, FieldSpec, FieldTable, Hint

UCI = "UCI"
HEART_CSV = "heart.csv"

UCI_MISSING = Hint(
    low=-9, high=-9, text="UCI's raw files write -9 for missing: leave it out", coding=UCI
)
ZERO = Hint(low=0, high=0, text="0 does not mean missing: leave out what is not known")


def _choices(*titles: str) -> tuple[Choice, ...]:
    """Codes from 0, with a word made from each title."""
    return tuple(
        Choice(code=code, word=title.lower().replace(" ", "_").replace("-", "_"), title=title)
        for code, title in enumerate(titles)
    )


def _uci_codes(code: int, text: str) -> Hint:
    return Hint(low=code, high=code, text=text, coding=UCI)


_THAL = "UCI's own codes 3, 6 and 7 are 0, 1 and 2 here"

FIELDS = (
    FieldSpec(
        name="age",
        title="Age",
        kind="number",
        unit="years",
        accept=(18, 110),
        training=(29, 77),
        required=True,
        hints=(
            Hint(low=1900, high=2100, text="looks like a year of birth: send the age in years"),
        ),
        aliases=("age_years", "years", "patient_age", "alter"),
    ),
    FieldSpec(
        name="sex",
        title="Sex",
        kind="category",
        choices=_choices("Female", "Male"),
        accept=(0, 1),
        training=(0, 1),
        required=True,
        hints=(Hint(low=2, high=2, text="female is 0 and male is 1 here, in no case 2"),),
        aliases=("gender", "male", "is_male", "patient_sex"),
    ),
    FieldSpec(
        name="cp",
        title="Chest pain type",
        kind="category",
        choices=_choices("Typical angina", "Atypical angina", "Non-anginal pain", "Asymptomatic"),
        accept=(0, 3),
        training=(0, 3),
        hints=(_uci_codes(4, "UCI's own codes 1 to 4 are 0 to 3 here"), UCI_MISSING),
        aliases=("chest_pain", "chest_pain_type", "chestpain", "chestpaintype", "pain_type"),
    ),
    FieldSpec(
        name="trestbps",
        title="Resting systolic blood pressure",
        kind="number",
        unit="mm Hg",
        accept=(60, 260),
        training=(94, 200),
        hints=(
            ZERO,
            UCI_MISSING,
            Hint(low=8, high=35, text="looks like kPa: multiply by 7.5 for mm Hg", factor=7.5),
        ),
        aliases=(
            "bp",
            "rbp",
            "resting_bp",
            "restingbp",
            "rest_bp",
            "resting_blood_pressure",
            "blood_pressure",
            "systolic",
            "systolic_bp",
            "sbp",
            "trtbps",
        ),
    ),
    FieldSpec(
        name="chol",
        title="Serum cholesterol",
        kind="number",
        unit="mg/dl",
        accept=(50, 700),
        training=(126, 564),
        hints=(
            ZERO,
            UCI_MISSING,
            Hint(
                low=1, high=20, text="looks like mmol/l: multiply by 38.67 for mg/dl", factor=38.67
            ),
        ),
        aliases=(
            "cholesterol",
            "serum_cholesterol",
            "serum_cholestoral",
            "total_cholesterol",
            "cholesterin",
        ),
    ),
    FieldSpec(
        name="fbs",
        title="Fasting blood sugar over 120 mg/dl",
        kind="category",
        choices=_choices("No", "Yes"),
        boolean=True,
        accept=(0, 1),
        training=(0, 1),
        used=False,
        hints=(
            UCI_MISSING,
            Hint(low=40, high=600, text="looks like mg/dl: send 1 for over 120 mg/dl, else 0"),
        ),
        aliases=("fasting_bs", "fastingbs", "fasting_blood_sugar", "blood_sugar"),
    ),
    FieldSpec(
        name="restecg",
        title="Resting ECG",
        kind="category",
        choices=(
            Choice(code=0, word="normal", title="Normal"),
            Choice(code=1, word="st_t_abnormality", title="ST-T abnormality"),
            Choice(code=2, word="lv_hypertrophy", title="Left ventricular hypertrophy"),
        ),
        accept=(0, 2),
        training=(0, 2),
        used=False,
        hints=(UCI_MISSING,),
        aliases=("resting_ecg", "restingecg", "rest_ecg", "resting_electrocardiogram", "ecg"),
    ),
    FieldSpec(
        name="thalach",
        title="Highest heart rate in the exercise test",
        kind="number",
        unit="beats/min",
        accept=(40, 240),
        training=(71, 202),
        hints=(
            ZERO,
            UCI_MISSING,
            Hint(low=0.6, high=4, text="looks like beats per second: multiply by 60", factor=60),
        ),
        aliases=(
            "max_heart_rate",
            "maximum_heart_rate",
            "max_heart_rate_achieved",
            "maxhr",
            "max_hr",
            "heart_rate",
            "thalachh",
        ),
    ),
    FieldSpec(
        name="exang",
        title="Angina brought on by exercise",
        kind="category",
        choices=_choices("No", "Yes"),
        boolean=True,
        accept=(0, 1),
        training=(0, 1),
        hints=(UCI_MISSING,),
        aliases=("exercise_angina", "exerciseangina", "exercise_induced_angina", "exng"),
    ),
    FieldSpec(
        name="oldpeak",
        title="ST depression in exercise relative to rest",
        kind="number",
        unit="mm",
        accept=(-5, 10),
        training=(0, 6.2),
        hints=(
            UCI_MISSING,
            Hint(
                low=50, high=1000, text="looks like microvolts: divide by 100 for mm", factor=0.01
            ),
        ),
        aliases=("st_depression", "stdepression", "st_dep", "old_peak"),
    ),
    FieldSpec(
        name="slope",
        title="Slope of the ST segment at peak exercise",
        kind="category",
        choices=_choices("Up", "Flat", "Down"),
        accept=(0, 2),
        training=(0, 2),
        hints=(_uci_codes(3, "UCI's own codes 1 to 3 are 0 to 2 here"), UCI_MISSING),
        aliases=("st_slope", "stslope", "slp", "slope_peak_exc_st"),
    ),
    FieldSpec(
        name="ca",
        title="Major vessels coloured in fluoroscopy",
        kind="category",
        choices=(
            Choice(code=0, title="none"),
            Choice(code=1, title="one"),
            Choice(code=2, title="two"),
            Choice(code=3, title="three"),
        ),
        accept=(0, 3),
        training=(0, 3),
        hints=(
            Hint(
                low=4,
                high=4,
                text="the 303-row heart.csv writes 4 for missing: leave it out",
                coding=HEART_CSV,
            ),
            UCI_MISSING,
        ),
        aliases=("caa", "vessels", "major_vessels", "num_major_vessels", "number_of_vessels"),
    ),
    FieldSpec(
        name="thal",
        title="Thallium scan",
        kind="category",
        choices=_choices("Normal", "Fixed defect", "Reversible defect"),
        accept=(0, 2),
        training=(0, 2),
        hints=(
            _uci_codes(3, f"{_THAL}; heart.csv's 2, 1 and 3 are 0, 1 and 2"),
            _uci_codes(6, _THAL),
            _uci_codes(7, _THAL),
            UCI_MISSING,
        ),
        aliases=("thall", "thallium", "thallium_scan", "thallium_test", "thal_rate"),
    ),
)

OTHER_COLUMNS = {
    "target": (
        "marks the heart.csv form, whose label is reversed (1 is healthy) and whose cp, slope, "
        "thal and ca have other codes: recode them as data/README.md says and remove the column"
    ),
    "num": (
        "marks UCI's own coding: subtract 1 from cp and slope, recode thal 3, 6, 7 as 0, 1, 2, "
        "and remove the column"
    ),
}

TABLE = FieldTable(fields=FIELDS, other_columns=OTHER_COLUMNS)
