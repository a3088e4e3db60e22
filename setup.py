from configparser import ConfigParser
from setuptools import setup
cfg = ConfigParser(delimiters=['=']); cfg.read('settings.ini', encoding='utf-8')
base, learn, clinic, dev = (cfg['DEFAULT'][f'{key}requirements'].split() for key in ('', 'learn_', 'clinic_', 'dev_'))
setup(install_requires=base, extras_require={'learn': learn, 'clinic': clinic, 'dev': learn + clinic + dev})
