// Empty on purpose: cargo needs a target, the build only vendors the dependencies.
