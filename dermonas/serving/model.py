"""The MLflow model, from code: this file is copied into a package and run there when the model is loaded.

A request has one column `image` (base64 text of an encoded image file, or bytes) and, accepted but ignored, age, sex
and site; parameters top_k, cam and tta. An answer has label, probability, probabilities (the top_k, falling),
abstain, reason, cam (see `Served.maps`; null unless asked for), model, version, digest and notice. One bad row makes
the whole request an error of one line that names the row, so that no answer can slip to another image.

`version` is the registry's, read from what MLflow writes beside MLmodel as it fetches models:/NAME/VERSION or
models:/NAME@ALIAS ("" where the model was loaded otherwise); `digest` is computed over the files that were loaded,
and equals the registry's tag dermonas.files_digest where nothing was changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from dermonas.errors import DermonasError
from dermonas.serving.digest import files_digest, version_of
from dermonas.serving.request import IMAGE, Parameters, images_of
from dermonas.serving.served import Served


class ServedModel(PythonModel):
    """Answers requests with a packaged model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the package's artifacts, and learn version and digest from its folder."""
        artifacts = Path(context.artifacts["description"]).parent
        self.served = Served.load(artifacts)
        self.version = version_of(artifacts.parent)
        self.digest = files_digest(artifacts.parent)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row, in order.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400), one line, where the request cannot be answered.
        """
        try:
            return pd.DataFrame(self.answers(model_input, params))
        except DermonasError as error:
            raise MlflowException.invalid_parameter_value(" ".join(str(error).split())) from None

    def answers(self, table: pd.DataFrame, params: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Return one answer a row."""
        chosen = Parameters.of(params)
        images = images_of(table.columns, table[IMAGE] if IMAGE in table.columns else None)
        about = {
            "model": self.served.description.registered,
            "version": self.version,
            "digest": self.digest,
            "notice": self.served.description.notice,
        }
        outputs = self.served.outputs(images, tta=chosen.tta, strict=True)
        return [
            {**answer, **about}
            for output in outputs
            for answer in self.served.answers(output, top_k=chosen.top_k, cam=chosen.cam)
        ]


set_model(ServedModel())  # what models-from-code is: MLflow runs this file to get the model
