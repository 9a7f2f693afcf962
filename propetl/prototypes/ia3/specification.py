"""The tensors of (IA)³, which has no hyper-parameters."""

from typing import TYPE_CHECKING

from propetl.errors import ConfigurationError
from propetl.prototypes.method import ZEROS, Method, PrototypeTensor, Widths

if TYPE_CHECKING:
    from propetl.prototypes.layer import MethodLayer


class Ia3(Method[object]):
    """Vectors ``l_k``, ``l_v`` and ``l_ff`` that scale keys, values and the FFN's inner values.

    Each tensor holds ``l - 1``, the deviation of a scale from one, so the scale that runs is
    ``1 + deviation * mask``: a masked entry scales by one and leaves the backbone alone. If the tensor held ``l``, a
    masked entry would scale by zero and cut its channel off. Three things follow:

    * A deviation starts at zero, which is the paper's ``l = 1``: a fresh prototype is the bare backbone.
    * A mask gets the gradient ``dL/dscale * deviation``. It is zero at the first step, and not zero once the deviation
      has moved, which it does if any slot or task keeps the entry. LoRA's B, zero at first as well, learns in this way.
    * Weight decay pulls a scale towards one and not towards zero.

    Source: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    NeurIPS 2022, section 3.3; the default learning rate is that of its section 3.2 (T-Few). The rate of the scores and
    the sparsity are those of the adapter: the paper has no masks.
    """

    name = "ia3"
    title = "(IA)³"
    learning_rate = 3e-3
    score_learning_rate = 3e-3

    def tensors(self, options: object, widths: Widths) -> tuple[PrototypeTensor, ...]:
        """Keys and values have a slot for each attention; the FFN has one for each layer.

        Raises:
            ConfigurationError: layers differ in the width of their FFN, so they cannot share a vector.
        """
        if widths.ffn is None:
            raise ConfigurationError(
                "method ia3 shares one vector between the FFNs of all layers; those of this backbone differ in width, "
                "or its description states none (ffn_size): choose another method"
            )
        return (
            PrototypeTensor("key", (widths.key_value,), ZEROS),
            PrototypeTensor("value", (widths.key_value,), ZEROS),
            PrototypeTensor("ffn", (widths.ffn,), ZEROS, once_a_layer=True),
        )

    def layer(self) -> "MethodLayer":
        """Hooks at the projections of keys and values, and before the FFN's last one."""
        from propetl.prototypes.ia3.layer import Ia3Layer

        return Ia3Layer()
