from configparser import ConfigParser
from setuptools import setup
cfg = ConfigParser(delimiters=['=']); cfg.read('settings.ini', encoding='utf-8'); cfg = cfg['DEFAULT']
setup(install_requires=cfg['requirements'].split(), extras_require={'dev': cfg['dev_requirements'].split()})
