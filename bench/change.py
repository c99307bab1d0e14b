def change(bench):
    return []
