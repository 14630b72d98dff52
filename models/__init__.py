"""Reference implementations of the published spiking transformers, and a small zoo of trained ones.

============================ ==============================================
===========================
module                       model                                          attention
============================ ==============================================
===========================
``spikformer``               Spikformer (Zhou et al. 2023)                  SSA: spikes, two products
``spikformer_v2``            Spikformer V2 (Zhou et al. 2024)               SSA behind a convolutional stem
``spiking_bert``             SpikingBERT (Bal and Sengupta 2024)            softmax of scores in each step
``vit``                      ViT, dense (Dosovitskiy et al. 2021)           softmax of real values
``qkformer``                 QKFormer (Zhou et al. 2024)                    Q-K token masks, then SSA
``spiking_resformer``        SpikingResformer (Shi et al. 2024)             DSSA: real by spikes, twice
``spike_driven_transformer`` Spike-driven Transformer, V1 (Yao et al. 2023) SDSA-1: one mask a
channel
``meta_spikeformer``         Meta-SpikeFormer, V2 (Yao et al. 2024)         SDSA-3: SSA on RepConv
============================ ==============================================
===========================

``registry`` has every size by name, as in the papers and tiny: ``registry.build("spikformer-4-384",
T=4)``. ``layers`` has what models share, ``zoo`` one folder for each trained model. Models need
torch and SpikingJelly, and are imported by module: this package imports nothing.

What all but SpikingBERT and ViT keep: neurons are SpikingJelly's LIFNode in multi-step mode,
and see tensors (T, B, ...); time is made inside, by presenting the image T times; samples never
meet; shapes decide control flow, never values; no weight depends on T or on the size of the image.
"""
