from configparser import ConfigParser
from setuptools import setup
cfg = ConfigParser(delimiters=['=']); cfg.read('settings.ini', encoding='utf-8')
base, learn, clinic, cluster, dev = (cfg['DEFAULT'][f'{key}requirements'].split()
                                     for key in ('', 'learn_', 'clinic_', 'cluster_', 'dev_'))
setup(install_requires=base, extras_require={'learn': learn, 'clinic': clinic, 'cluster': cluster,
                                             'dev': learn + clinic + cluster + dev})
