def manual(conf):
    return ""
