"""What a reader of the page must know about its numbers."""

HOW_TO_READ = (
    "a ± b: mean and standard deviation (n − 1) over the seeds of one model. One training has no standard "
    "deviation, and none is shown.",
    "[a, b]: {level} % interval of that mean, from resampling whole lesions (single images, where none are known) "
    "with replacement; all models and seeds are scored on the same resamples. It says how much other lesions could "
    "have moved the figure of these trainings. It does not hold what other seeds would have given: that is the ± "
    "beside it.",
    "Overlapping intervals do not say that two models are equal. All models saw the same images, so their "
    "difference is usually known better than either figure: read it from the paired tests.",
    "Paired tests: the difference of accuracy (or balanced accuracy), the mean over the seeds of either model, on "
    "the same resamples of lesions. Its interval is not corrected for the number of comparisons, its p after Holm "
    "is; where the two disagree, go by p. “Not resolved” says that these images cannot tell, not that the models "
    "are equal.",
    "Holm's correction runs over all accuracy and balanced-accuracy tests of this page, and over McNemar's tests "
    "apart.",
    "McNemar's test (mid-p) compares one training of each model, the first listed under Runs, image by image. It "
    "takes images as independent and is too sure where lesions have several images.",
    "Balanced accuracy is the mean recall over the classes of the test split. Errors are 100 % minus accuracy.",
    "The Pareto front joins the models that no other of ours beats in cost and accuracy at once. It is drawn from "
    "the means: where intervals overlap, membership is a matter of chance.",
    "Parameters and multiply-adds count what is built, without an auxiliary head. Latency is one image on the "
    "machine of each run, so compare it only where the machines were alike.",
)
"""Sentences; {level} is the intervals' level in percent."""
