"""All tables of the operational database, gathered for migrations and their test."""

from operational.accounts import models as accounts
from operational.billing import models as billing
from operational.catalogue import models as catalogue
from operational.control import models as control
from operational.crm import models as crm
from operational.database import Base
from operational.identity import models as identity
from operational.settlement import models as settlement

__all__ = ["Base", "accounts", "billing", "catalogue", "control", "crm", "identity", "settlement"]
