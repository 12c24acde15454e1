"""What the heart model's card says that no run can compute."""

PROSE: dict[str, tuple[str, ...]] = {
    "Intended use": (
        "To show how a scikit-learn model is trained, checked, packed and served. "
        "For developers, operators and teachers; not for clinicians and not for patients. "
        "No decision about a person may rest on it.",
        "Show the probability first, never the yes/no label alone. To rule disease out the "
        "lower threshold is the better one: with the label's threshold more than a quarter of "
        "the ill women are missed.",
    ),
    "Setting and dates": (
        "Patients of the Cleveland Clinic, Cleveland, Ohio, who had coronary angiography between "
        "1981 and 1984. One hospital, all of its rows in the UCI collection.",
    ),
    "Eligibility": (
        "Everybody in the data had been referred for angiography. They are neither the public "
        "nor a screening population: among them those without chest pain are ill most often, "
        "because something else had brought them there.",
    ),
    "Outcome": (
        "A narrowing of more than 50 % of the diameter of at least one major coronary vessel, as "
        "seen at angiography (1), or none (0). UCI's levels 1 to 4 are one here. The "
        "probability is of that finding, not of a future event.",
    ),
    "Missing data": (
        "Nothing is ever filled in at prediction time. For every set of present fields there is "
        "a fit of its own, and the one that answers saw no other fields. Therefore adding a "
        "field may move the probability either way. In fitting, the few training rows without "
        "ca or thal take the most frequent value.",
        "Age and sex must be there. Zero is a value and never means missing.",
    ),
    "Specification": (
        "Logistic regression with an L2 penalty (C = 0.3). Numbers are clipped to the training "
        "range and standardised; each code of cp, slope and thal has a column; ca has one for "
        "each number of vessels reached. Coefficients of age, sex, trestbps, chol, exang, "
        "oldpeak and ca may not be negative and that of thalach not positive: the column that "
        "contradicts most is taken out and the rest fitted again until none does.",
        "With all fields there age has no weight of its own: the other fields carry it. In "
        "smaller sets it has.",
    ),
    "Limits": (
        "The patients are from one hospital and forty years old: referral, treatment and "
        "measurement have changed.",
        "ca comes from fluoroscopy and thal from a nuclear scan. Most callers have neither: "
        "look at the line of their own fields in the table of field sets.",
        "Only 25 women in the data are ill; what is said of women rests on them.",
        "Measured once on the other hospitals of the UCI collection, whose data are not in this "
        "repository and are not part of a training run: AUC 0.893 in Budapest, 0.744 in Long "
        "Beach, 0.747 in Zurich and Basel (8 healthy patients only). The bands of probability "
        "shift there.",
        "Cross-validation says what the model is worth for other patients of the same kind in "
        "the same hospital, and no more.",
    ),
    "Licence and citation": (
        "Code: MIT. Data: Creative Commons Attribution 4.0 International (CC BY 4.0). Changes "
        "made: Cleveland only, 14 of 76 attributes, codes from 0, diagnosis reduced to 0 and 1, "
        "missing values left empty.",
        "Janosi, A., Steinbrunn, W., Pfisterer, M., Detrano, R. (1989). Heart Disease [Dataset]. "
        "UCI Machine Learning Repository. https://doi.org/10.24432/C52P4X. Principal "
        "investigators: Andras Janosi, M.D. (Hungarian Institute of Cardiology, Budapest); "
        "William Steinbrunn, M.D. (University Hospital, Zurich); Matthias Pfisterer, M.D. "
        "(University Hospital, Basel); Robert Detrano, M.D., Ph.D. (V.A. Medical Center, Long "
        "Beach, and Cleveland Clinic Foundation).",
        "Method: Fletcher Mercaldo, S., Blume, J. D. (2020). Missing data and prediction: the "
        "pattern submodel. Biostatistics 21(2), 236-252. "
        "https://doi.org/10.1093/biostatistics/kxy040.",
        "Educational demonstration, not a medical device.",
    ),
}
