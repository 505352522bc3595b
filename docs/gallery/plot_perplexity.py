"""
The perplexity of a corpus and of its documents
===============================================

:class:`~fastloss.Perplexity` adds up the losses of a corpus batch by batch, and keeps totals of each
document. Its sums are exact, so that the result does not depend on the order.
"""

# %%
# The documents are the topics of the documentation that comes with Python. Every fifth is held out. The model
# counts which word follows which in the others, and mixes that with how often each word is there.
import re
from collections import Counter
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

import fastloss

documents = {name: re.findall(r"\w+|[^\w\s]", text.lower()) for name, text in topics.items()}
names = sorted(documents)
held_out = [name for name in names[::5] if len(documents[name]) > 100]
counts = Counter(word for name in names if name not in held_out for word in documents[name])
number = {word: i for i, (word, _) in enumerate(counts.most_common(2999))}
numbers = {name: np.array([number.get(word, 2999) for word in documents[name]]) for name in names}

pairs = np.zeros((3000, 3000))
for name in names:
    if name not in held_out:
        np.add.at(pairs, (numbers[name][:-1], numbers[name][1:]), 1)
alone = (pairs.sum(axis=0) + 1) / (pairs.sum() + 3000)
after = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
logits = np.log(0.6 * after + 0.4 * alone).astype(np.float32)

# %%
# One call for each document. ``by`` says whose tokens they are.
corpus = fastloss.Perplexity()
so_far = []
for name in held_out:
    words = numbers[name]
    corpus.update(logits[words[:-1]], words[1:], by=name)
    so_far.append((corpus.tokens, corpus.compute()))
print(fastloss.interpret(corpus.mean_loss))

# %%
# The same documents in the reverse order, as two halves that are added, give the same bits.
halves = [fastloss.Perplexity(), fastloss.Perplexity()]
for i, name in enumerate(reversed(held_out)):
    words = numbers[name]
    halves[i % 2].update(logits[words[:-1]], words[1:])
print(sum(halves).compute() == corpus.compute())

# %%
# On the left the perplexity after each document, on the right that of the documents themselves.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
left.plot(*zip(*so_far, strict=True), color="#0072B2")
left.set(xlabel="tokens so far", ylabel="perplexity", ylim=(0, None))

found = sorted((totals.perplexity, name) for name, totals in corpus.documents.items())
shown = found[:6] + found[-6:]
right.barh([name for _, name in shown], [value for value, _ in shown], color="#56B4E9")
right.axvline(corpus.compute(), color="#D55E00", label="all of them")
right.set(xlabel="perplexity of the six easiest and hardest documents")
right.legend(frameon=False, loc="lower right")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()
