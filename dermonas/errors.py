"""Every error that dermonas raises on purpose.

A message is one line: what is wrong, where (file, row, key), and the mend. Entry points print it
to standard error, end the MLflow run FAILED with it as a tag, and exit non-zero.

    DermonasError
    ├── ConfigError          a recipe or command-line value
    ├── DataError            images, manifests, caches
    │   ├── ImageError       one image that cannot be used
    │   └── LabelError       a label table that contradicts itself
    ├── GenotypeError        a genotype, theta or zoo name
    ├── SearchError          a search that cannot go on
    │   ├── StudyMismatch    a study made with another configuration
    │   ├── StudyBusy        a study that another live process is searching
    │   └── TooManyFailures  more failed trials than `max_failures`
    └── StorageError         a disk, database or tracking store that refuses a write
"""


class DermonasError(Exception):
    """Root of the tree. `str(error)` is the one line a user reads."""


class ConfigError(DermonasError):
    """A recipe or command-line value is unknown, of the wrong type or impossible."""


class DataError(DermonasError):
    """Images, a manifest or a cache cannot be used as they are."""


class ImageError(DataError):
    """One image cannot be decoded or is not usable."""


class LabelError(DataError):
    """A label table contradicts itself or the images; the message names rows."""


class GenotypeError(DermonasError):
    """A genotype, theta or zoo name is not valid."""


class SearchError(DermonasError):
    """A search cannot start or go on."""


class StudyMismatch(SearchError):
    """The study was made with another resolved configuration."""


class StudyBusy(SearchError):
    """Another live process is searching this study."""


class TooManyFailures(SearchError):
    """More trials failed than `max_failures` allows."""


class StorageError(DermonasError):
    """A disk, database or tracking store refused a write."""
