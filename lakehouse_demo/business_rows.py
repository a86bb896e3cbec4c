"""The rows of the business, each of which can tell its JSON image, and the names and prices that they start
with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

MONEY_SCALE: Final = 10_000
"""Money and weights are integers of ten-thousandths: a DECIMAL(20,4) without rounding."""

CITIES: Final = (
    ("Beijing 北京", "Beijing"),
    ("Shanghai 上海", "Shanghai"),
    ("Guangzhou 广州", "Guangdong"),
    ("Shenzhen 深圳", "Guangdong"),
    ("Chengdu 成都", "Sichuan"),
    ("Hangzhou 杭州", "Zhejiang"),
    ("Wuhan 武汉", "Hubei"),
    ("Xi'an 西安", "Shaanxi"),
    ("Tianjin 天津", "Tianjin"),
    ("Nanjing 南京", "Jiangsu"),
    ("Suzhou 苏州", "Jiangsu"),
    ("Qingdao 青岛", "Shandong"),
)
"""Name and province."""

PRODUCTS: Final = (
    ("Post top", "ads", "Advertising", 10_000, 990_000),
    ("Post refresh", "ads", "Advertising", 5_000, 290_000),
    ("Banner week", "ads", "Advertising", 25_000, 4_800_000),
    ("Search boost", "ads", "Advertising", 12_500, 1_490_000),
    ("Recruiter basic", "jobs", "Recruitment", 15_000, 5_980_000),
    ("Recruiter plus", "jobs", "Recruitment", 22_500, 12_980_000),
    ("Resume pack", "jobs", "Recruitment", 7_500, 1_999_900),
    ("Broker basic", "housing", "Housing", 17_500, 6_880_000),
    ("Broker premium", "housing", "Housing", 30_000, 16_880_000),
    ("Listing pack", "housing", "Housing", 8_000, 2_333_333),
    ("Dealer basic", "cars", "Used cars", 16_000, 7_770_000),
    ("Dealer premium", "cars", "Used cars", 28_000, 15_550_000),
)
"""Name, category, category name, score weight and price."""

GIVEN_NAMES: Final = (
    "An",
    "Bo",
    "Chen",
    "Dan",
    "Fang",
    "Hua",
    "Jing",
    "Lei",
    "Min",
    "Ning",
    "Ping",
    "Qiang",
    "Xue",
    "Yu",
)
FAMILY_NAMES: Final = (
    "Li",
    "Wang",
    "Zhang",
    "Liu",
    "Chen",
    "Yang",
    "Zhao",
    "Huang",
    "Zhou",
    "Wu",
    "Müller",
    "O'Neil",
)


def money(units: int) -> str:
    """Ten-thousandths (not negative) as the text of a DECIMAL(20,4)."""
    return f"{units // MONEY_SCALE}.{units % MONEY_SCALE:04d}"


@dataclass(slots=True)
class City:
    """A row of ``city``."""

    id: str
    name: str
    province: str

    def image(self) -> str:
        """The row as JSON."""
        return f'{{"id":"{self.id}","name":"{self.name}","province":"{self.province}"}}'


@dataclass(slots=True)
class Team:
    """A row of ``team``."""

    id: str
    name: str
    city_id: str

    def image(self) -> str:
        """The row as JSON."""
        return f'{{"id":"{self.id}","name":"{self.name}","city_id":"{self.city_id}"}}'


@dataclass(slots=True)
class Agent:
    """A row of ``agent``."""

    id: str
    name: str
    team_id: str
    hired_on: date

    def image(self) -> str:
        """The row as JSON."""
        return f'{{"id":"{self.id}","name":"{self.name}","team_id":"{self.team_id}","hired_on":"{self.hired_on}"}}'


@dataclass(slots=True)
class Product:
    """A row of ``product``, and its price, which the table does not have."""

    id: str
    name: str
    category: str
    category_name: str
    score_weight: int
    price: int

    def image(self) -> str:
        """The row as JSON."""
        return (
            f'{{"id":"{self.id}","name":"{self.name}","category":"{self.category}",'
            f'"category_name":"{self.category_name}","score_weight":"{money(self.score_weight)}"}}'
        )


@dataclass(slots=True)
class Sprint:
    """A row of ``sprint``; both dates are days of the sprint."""

    id: str
    name: str
    start_date: date
    end_date: date

    def image(self) -> str:
        """The row as JSON."""
        return (
            f'{{"id":"{self.id}","name":"{self.name}","start_date":"{self.start_date}","end_date":"{self.end_date}"}}'
        )


@dataclass(slots=True)
class Member:
    """A row of ``member``, and how many order rows refer to it; an empty ``phone`` is NULL."""

    id: str
    name: str
    city_id: str
    phone: str
    event_time: int
    orders: int = 0

    def image(self) -> str:
        """The row as JSON."""
        phone = f'"{self.phone}"' if self.phone else "null"
        return (
            f'{{"id":"{self.id}","name":"{self.name}","city_id":"{self.city_id}","phone":{phone},'
            f'"event_time":{self.event_time}}}'
        )


@dataclass(slots=True)
class Order:
    """A row of ``member_order``."""

    v_date: str
    id: str
    member: Member
    agent_id: str
    product: Product
    sprint_id: str
    order_type: str
    quantity: int
    amount: int
    status: str
    event_time: int

    def image(self) -> str:
        """The row as JSON."""
        return (
            f'{{"v_date":"{self.v_date}","id":"{self.id}","member_id":"{self.member.id}",'
            f'"agent_id":"{self.agent_id}","product_id":"{self.product.id}","sprint_id":"{self.sprint_id}",'
            f'"order_type":"{self.order_type}","quantity":{self.quantity},"amount":"{money(self.amount)}",'
            f'"status":"{self.status}","event_time":{self.event_time}}}'
        )
