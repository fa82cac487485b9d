"""The callback in a real Trainer, on the CPU and a tiny model."""

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import transformers

import fullrank
from fullrank.errors import FullrankError
from fullrank.integrations.transformers import CollapseCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages


class Rows(Dataset):
    """96 rows of 6 numbers, from which two views are made."""

    rows = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"x": self.rows[index]}


class Siamese(nn.Module):
    """Two views through one backbone, in checkpointed segments where asked; every output is kept."""

    def __init__(self, checkpointed=False):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))
        self.checkpointed = checkpointed
        self.seen = []

    def forward(self, x):
        def run(view):
            return self.backbone(view)

        if self.checkpointed:
            h = [torch.utils.checkpoint.checkpoint(run, x + shift, use_reentrant=False) for shift in (0.1, -0.1)]
        else:
            h = [run(x + 0.1), run(x - 0.1)]
        if self.training:
            self.seen.append([part.detach().clone() for part in h])
        return {"loss": fullrank.losses.vicreg(*h)}


def trainer(folder, model, **settings):
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=16,
        num_train_epochs=2,
        logging_steps=4,
        save_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    return transformers.Trainer(model, arguments, train_dataset=Rows(), eval_dataset=Rows())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_scores_of_what_the_step_computed_stand_beside_the_loss(tmp_path, checkpointed):
    model = Siamese(checkpointed)
    watch = CollapseCallback("backbone", every=3, half_life=1e12)
    reported = []

    class Reporter(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            reported.append(dict(logs))

    made = trainer(tmp_path, model, eval_strategy="epoch")
    made.add_callback(Reporter())
    watch.add_to(made)
    made.train()
    assert len(model.seen) == 12
    absorbed = torch.cat([h for step in model.seen[::3] for h in step])
    torch.testing.assert_close(
        watch.spectrum.singular_values, fullrank.spectrum(absorbed).singular_values, rtol=1e-5, atol=1e-6
    )
    assert watch.spectrum.protocol["samples"] == 4 * 2 * 16
    history = [row for row in made.state.log_history if "loss" in row]
    assert [row["step"] for row in history] == [4, 8, 12]
    assert history[-1]["collapse/auc"] == watch.spectrum.auc
    assert [row["collapse/auc"] for row in history] == [row["collapse/auc"] for row in reported if "loss" in row]
    assert not model.backbone._forward_hooks


def test_accumulated_batches_all_count(tmp_path):
    watch = CollapseCallback("backbone", every=1, half_life=1e12)
    model = Siamese()
    made = trainer(tmp_path, model, gradient_accumulation_steps=2)
    watch.add_to(made)
    made.train()
    absorbed = torch.cat([h for step in model.seen[:8] for h in step])  # step 4 of 6 is the last that logs
    assert watch.spectrum.protocol["samples"] == len(absorbed)


def test_a_layer_that_is_not_there_is_named(tmp_path):
    made = trainer(tmp_path, Siamese())
    CollapseCallback("backbon").add_to(made)
    with pytest.raises(FullrankError, match="Siamese has no layer 'backbon'; did you mean 'backbone'"):
        made.train()
