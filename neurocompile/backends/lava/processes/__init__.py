"""The Lava processes of our own, alone in a package: Lava's compiler executes every ``.py`` file
beside a Process.
"""
