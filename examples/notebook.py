"""A whole search from Python, in cells: open it as a notebook, or run it as a script.

Half a minute on one core. Writes `studies.db` and `runs/` into the present folder; run a second
time, the study is found done, and so is the test evaluation, since the weights are the same.
"""

# %% [markdown]
# # Handwritten digits, 8x8 pixels
# Everything that the commands do, as functions.

# %%
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from search import (
    epochs_table,
    finalise,
    load_study,
    predict,
    run_study,
    study_figures,
    trials_table,
)

# %% [markdown]
# ## Search
# A space of one's own: one value is fixed, a list is a choice, a dict is a range. The same call
# carries the study on where it was interrupted; more `trials` make it longer.

# %%
view = run_study(
    study="notebook",
    dataset="digits",
    trials=6,
    epochs=4,
    seed=0,
    space={
        "depth": 2,
        "width": {"low": 8, "high": 24, "step": 8},
        "hidden": [[32], [64]],
        "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
        "batch_size": 64,
        "batch_norm": True,
        "schedule": "one-cycle",
    },
    progress=False,
)
print(f"{view.name}: {view.finished} of {view.spec.trials} trials finished")

# %% [markdown]
# ## Results as tables
# Lists of plain dicts: `pandas.DataFrame(trials_table(view))` takes them as they are.

# %%
view = load_study("notebook")  # here or in another notebook, also while it runs
for row in trials_table(view):
    if row["state"] == "complete":  # the others were stopped early, as not worth their time
        print(
            f"trial {row['trial']}: validation loss {row['validation_loss']:.4f}, "
            f"error {row['validation_error']:.2%}, learning rate {row['learning_rate']:.4f}, "
            f"{row['parameters']} parameters"
        )
assert view.best is not None
losses = [row["validation_loss"] for row in epochs_table(view) if row["trial"] == view.best.number]
print(f"best, trial {view.best.number}, by epoch:", *(f"{loss:.4f}" for loss in losses))

# %% [markdown]
# ## Figures
# Plotly's: show them, change them, save them.

# %%
shown = study_figures(view)
print("figures:", *shown)
shown["curves"].update_layout(title_text="How each trial learned")
shown["curves"].write_html(Path("curves.html"))

# %% [markdown]
# ## Final training, and the test set
# Once, when the search is done: each test evaluation is recorded in the database.

# %%
final = finalise("notebook", seeds=2)
test = final.metrics["test"]
print(f"test accuracy on digits: {test['uncertainty']['in_words']}, {test['images']} images")
print("network and page:", final.folder)

# %% [markdown]
# ## One's own picture
# Any size, dark on light or light on dark. This one is a training image, drawn large.

# %%
digits = load_digits()
drawn = Image.fromarray((255 - digits.images[10] * 15.9375).astype("uint8"))
drawn.resize((160, 160)).save("drawing.png")
for row in predict("drawing.png", bundle=final.bundle).table():
    print(f"{row['file']}: {row['label']} with {row['probability']:.1%} ({row['prepared']})")
print("it is a", digits.target[10])
