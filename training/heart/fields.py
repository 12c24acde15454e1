"""The field table of the heart model: the code book of `data/README.md` as code.

Training writes it into the manifest. The API and the worker read records by it and know no field
by name. Codes start at 0. `training` is the range of the 303 Cleveland rows, `accept` is wide
enough for every plausible adult.
"""

from __future__ import annotations

from shared.records.schema import Choice, FieldSpec, FieldTable, Hint

UCI, HEART_CSV = "UCI's own coding", "the coding of heart.csv"
UCI_OR_HEART_CSV = "UCI's own coding or that of heart.csv"
UCI_RAW = "UCI's raw files"

_IN_UCI = "cp is 1 to 4 and slope is 1 to 3 (here one less), and thal is 3, 6, 7 (here 0, 1, 2)"
_IN_HEART_CSV = (
    "cp is 3 minus the code here, slope is 2 minus the code here, thal is 2, 1, 3 (here 0, 1, 2), "
    "and thal 0 and ca 4 mean missing"
)
CODINGS = {
    UCI: _IN_UCI,
    HEART_CSV: _IN_HEART_CSV,
    UCI_OR_HEART_CSV: f"in UCI's, {_IN_UCI}; in heart.csv's, {_IN_HEART_CSV}",
    UCI_RAW: "-9 means missing: leave it out",
}

UCI_MISSING = Hint(
    low=-9, high=-9, text="UCI's raw files write -9 for missing: leave it out", coding=UCI_RAW
)
ZERO = Hint(low=0, high=0, text="0 does not mean missing: leave out what is not known")


def _choice(code: int, title: str, *synonyms: str) -> Choice:
    """A code with a word made from its title."""
    word = title.lower().replace(" ", "_").replace("-", "_")
    return Choice(code=code, word=word, synonyms=synonyms, title=title)


def _uci_codes(code: int, text: str, coding: str = UCI) -> Hint:
    return Hint(low=code, high=code, text=text, coding=coding)


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
        aliases=("age_years", "alter"),
    ),
    FieldSpec(
        name="sex",
        title="Sex",
        kind="category",
        choices=(_choice(0, "Female", "f", "woman"), _choice(1, "Male", "m", "man")),
        accept=(0, 1),
        training=(0, 1),
        required=True,
        hints=(Hint(low=2, high=2, text="female is 0 and male is 1 here, in no case 2"),),
        aliases=("gender", "male", "is_male", "sexe", "geschlecht"),
        unlike=("female", "women", "woman"),
    ),
    FieldSpec(
        name="cp",
        title="Chest pain type",
        kind="category",
        choices=(
            _choice(0, "Typical angina", "typical", "ta"),
            _choice(1, "Atypical angina", "atypical", "ata"),
            _choice(2, "Non-anginal pain", "non_anginal", "nap"),
            _choice(3, "Asymptomatic", "asy"),
        ),
        accept=(0, 3),
        training=(0, 3),
        hints=(_uci_codes(4, "UCI's own codes 1 to 4 are 0 to 3 here"), UCI_MISSING),
        aliases=("chest_pain", "pain_type", "angina_type"),
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
            "resting_blood_pressure",
            "blood_pressure",
            "systolic",
            "sbp",
        ),
        unlike=("diastolic", "dbp", "mean"),
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
            "total_cholesterol",
            "cholesterin",
        ),
        unlike=("hdl", "ldl", "vldl"),
    ),
    FieldSpec(
        name="fbs",
        title="Fasting blood sugar over 120 mg/dl",
        kind="category",
        choices=(_choice(0, "No"), _choice(1, "Yes")),
        boolean=True,
        accept=(0, 1),
        training=(0, 1),
        used=False,
        hints=(
            UCI_MISSING,
            Hint(low=40, high=600, text="looks like mg/dl: send 1 for over 120 mg/dl, else 0"),
        ),
        aliases=("fasting_bs", "fasting_blood_sugar", "blood_sugar", "fasting_sugar"),
    ),
    FieldSpec(
        name="restecg",
        title="Resting ECG",
        kind="category",
        choices=(
            Choice(code=0, word="normal", title="Normal"),
            Choice(
                code=1,
                word="st_t_abnormality",
                synonyms=("st", "st_t_wave_abnormality"),
                title="ST-T abnormality",
            ),
            Choice(
                code=2,
                word="lv_hypertrophy",
                synonyms=("lvh", "left_ventricular_hypertrophy"),
                title="Left ventricular hypertrophy",
            ),
        ),
        accept=(0, 2),
        training=(0, 2),
        used=False,
        hints=(UCI_MISSING,),
        aliases=("ecg", "ekg", "resting_electro", "electrocardiogram"),
        unlike=("exercise", "stress"),
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
            "peak_heart_rate",
            "max_hr",
            "heart_rate",
        ),
        unlike=("rest", "resting", "min", "minimum"),
    ),
    FieldSpec(
        name="exang",
        title="Angina brought on by exercise",
        kind="category",
        choices=(_choice(0, "No"), _choice(1, "Yes")),
        boolean=True,
        accept=(0, 1),
        training=(0, 1),
        hints=(UCI_MISSING,),
        aliases=("exercise_angina", "exercise_induced_angina", "exertional_angina"),
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
        aliases=("st_depression", "st_dep", "old_peak"),
    ),
    FieldSpec(
        name="slope",
        title="Slope of the ST segment at peak exercise",
        kind="category",
        choices=(
            _choice(0, "Up", "upsloping"),
            _choice(1, "Flat"),
            _choice(2, "Down", "downsloping"),
        ),
        accept=(0, 2),
        training=(0, 2),
        hints=(_uci_codes(3, "UCI's own codes 1 to 3 are 0 to 2 here"), UCI_MISSING),
        aliases=("st_slope", "slope_peak_exc_st"),
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
        aliases=(
            "vessels",
            "major_vessels",
            "number_of_vessels",
            "num_vessels",
            "no_of_major_vessels",
            "fluoroscopy",
            "fluro",
        ),
    ),
    FieldSpec(
        name="thal",
        title="Thallium scan",
        kind="category",
        choices=(
            _choice(0, "Normal"),
            _choice(1, "Fixed defect", "fixed"),
            _choice(2, "Reversible defect", "reversible", "reversable_defect"),
        ),
        accept=(0, 2),
        training=(0, 2),
        hints=(
            _uci_codes(3, f"{_THAL}; heart.csv's 2, 1 and 3 are 0, 1 and 2", UCI_OR_HEART_CSV),
            _uci_codes(6, _THAL),
            _uci_codes(7, _THAL),
            UCI_MISSING,
        ),
        aliases=("thallium", "thallium_scan", "thal_rate"),
    ),
)

_COMPARE = (
    "compare the codes of cp, slope, thal and ca with those of this model, recode the rows where "
    "they differ, and"
)
_LABEL = (
    "such a column is in files that often use other codes than this model: "
    f"{_COMPARE} remove the column"
)
_SPELLING = (
    "such names are in the heart.csv files, which use other codes than this model: "
    f"{_COMPARE} use the names of this model's fields"
)

OTHER_COLUMNS = dict.fromkeys(("target", "num", "output"), _LABEL) | dict.fromkeys(
    ("trtbps", "thalachh", "exng", "slp", "caa", "thall"), _SPELLING
)

TABLE = FieldTable(
    record_id="patient_id", fields=FIELDS, other_columns=OTHER_COLUMNS, codings=CODINGS
)
