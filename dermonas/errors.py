"""Every error that dermonas raises on purpose.

A message is one line: what is wrong, where (file, row, key), and the mend. Entry points print it
to standard error, end the MLflow run FAILED with it as a tag, and exit non-zero.

    DermonasError
    ├── ConfigError          a recipe or command-line value
    ├── DataError            images, manifests, caches
    │   ├── ImageError       one image that cannot be used
    │   │   └── ImageTooLarge    more pixels than are allowed
    │   └── LabelError       a label table that contradicts itself
    ├── GenotypeError        a genotype, theta or zoo name
    ├── SearchError          a search that cannot go on
    │   ├── StudyMismatch    a study made with another configuration
    │   ├── StudyBusy        a study that another live process is searching
    │   └── TooManyFailures  more failed trials than `max_failures`
    ├── RequestError         a request that a server does not answer
    └── StorageError         a disk, database or tracking store that refuses a write
"""


class DermonasError(Exception):
    """Root of the tree. `str(error)` is the one line a user reads."""


class ConfigError(DermonasError):
    """A recipe or command-line value is unknown, of the wrong type or impossible."""


class DataError(DermonasError):
    """Images, a manifest or a cache cannot be used as they are."""


class ImageError(DataError):
    """One image cannot be decoded or is not usable.

    Args:
        message: The line for who holds the file.
        brief: The line for anybody else: without what a decoder quotes of the file; `message` by default.
    """

    def __init__(self, message: str, brief: str = "") -> None:
        super().__init__(message)
        self.brief = brief or message


class ImageTooLarge(ImageError):
    """An image has more pixels than are allowed."""


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


class RequestError(DermonasError):
    """A server does not answer a request."""


class StorageError(DermonasError):
    """A disk, database or tracking store refused a write."""
