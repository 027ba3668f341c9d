"""Published rules to compare with a rule inferred from recordings."""

from metaplast.recordings.published import PublishedRule

hebb = PublishedRule("Hebb", "hebbian", "x y")
oja_of_one_neuron = PublishedRule("Oja", "oja_single", "(x y − y² W)")
sejnowski = PublishedRule("covariance", "covariance", "(x − x̄)(y − ȳ)")
